"""What runs do, one function a kind, each in a process of its own."""
