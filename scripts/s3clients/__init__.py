"""S3's own clients, walked through what people do with them: `scripts/s3_clients.sh` runs them and writes the page."""
