"""Rooms, participants, tracks and subscriptions: who gets what."""
