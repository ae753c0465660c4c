"""What the scripts use, by wing: see CONTRIBUTING.md."""
