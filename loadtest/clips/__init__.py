"""Clips that load clients send and check: a test picture, encoders, packetised reels, captures, and decoders."""
