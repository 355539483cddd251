"""The HTTP app: WHIP, WHEP, tokens, the page, metrics and health."""
