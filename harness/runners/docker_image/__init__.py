"""What the Docker image needs to be built, and what runs leave behind there."""
