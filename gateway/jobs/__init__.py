"""Jobs: requests whose answers are fetched later. Each survives a restart and answers each row once.

door ─ running ─ line (who is next)      ─ job (what may happen to one)
               ─ computing ─ pace        ─ predictions
               ─ sources ─ storage ─ outputs
               ─ store (SQLite and blobs)
               ─ webhooks
"""
