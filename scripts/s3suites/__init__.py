"""Suites that no one here wrote, pointed at S3: `scripts/s3_suites.sh` runs them and writes the page of results."""
