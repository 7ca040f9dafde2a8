"""What keeps a state from being lost: checks, repairs and copies of its folder, gateway or none."""
