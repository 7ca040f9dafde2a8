"""Workers on the machines of a Ray cluster: the launcher (`launcher`), a child process that has Ray imported
(`driver`), what the two say to each other (`orders`), and what runs beside each worker (`actor`)."""
