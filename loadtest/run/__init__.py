"""One run of a scenario: people come, stay, misbehave and leave, and what they saw is written down."""
