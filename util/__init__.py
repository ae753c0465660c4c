"""What the scripts stand on."""
