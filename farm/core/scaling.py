"""How many renderers are wanted."""


def wanted(*, open_shards: int, most: int) -> int:
    """As many as there are shards to spread, within the fleet."""
    return min(open_shards, most)
