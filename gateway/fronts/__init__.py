"""HTTP in processes of their own: `fronts` accept, parse and write, and hand whole predictions to the one
process that knows models. Everything else on a connection is handed over with the connection itself.

    clients ══ front ──┐  requests and answers, many in a frame
    clients ══ front ──┴─ Fronts ─ doors ─ core

`process`, `front`, `reader` and, over TLS, `secure` and `relay` run in a front, and import neither trio nor
Starlette; `fronts` and `desk` run in the gateway; `messages` is what both say.
"""
