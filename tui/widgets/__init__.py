"""What puts lines on the screen."""
