"""What all tests share: property tests without deadlines, as machines are slow and noisy."""

from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")
