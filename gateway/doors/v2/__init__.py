"""The Open Inference Protocol, version 2: what it means here (`infer`, `describe`), and the door for REST."""
