"""Technologies behind the ports: `drivers/<port>/<technology>.py`. Never a service, never another port's driver."""
