"""What a gateway still knows when it comes back."""
