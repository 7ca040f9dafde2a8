"""Workers as Pods of a Kubernetes cluster: bare ones, which nobody but the gateway replaces.

`launcher` is what the gateway orders by, `api` speaks HTTP, `access` finds the API server and proves who we
are; `pods`, `room` and `quantities` decide and are pure.
"""
