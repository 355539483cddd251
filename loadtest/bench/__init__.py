"""The node's own benchmark: what a packet, a join and a subscriber cost, beside the floor and a yardstick."""
