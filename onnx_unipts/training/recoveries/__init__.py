"""The recoveries, one file each."""
