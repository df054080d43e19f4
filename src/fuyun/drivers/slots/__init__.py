"""Drivers of `ports.changes.SlotStore`: which replication slots of ours there are at servers of others."""
