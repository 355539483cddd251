"""The overlay between nodes. Empty until rooms span nodes."""
