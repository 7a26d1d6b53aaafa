"""What is predicted, and which errors count."""
