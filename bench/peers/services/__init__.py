"""One service for each other server, as a user of it would write one. They run in environments of their own,
and import nothing of ours but `program`: `python -m bench.peers.services.NAME`, told by the environment."""
