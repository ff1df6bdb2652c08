"""What every other sub-package may use: errors, names, files, processes."""
