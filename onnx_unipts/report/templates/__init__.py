"""The pages as templates, one file each; ``page.html.j2`` is what all have in common."""
