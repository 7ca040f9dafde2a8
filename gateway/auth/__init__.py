"""Who may do what, by tokens: what each route needs, what each token holds, and how doors ask."""
