"""What happens between a recipe and an adapter."""
