"""Follows the references inside a compose file: services, volumes, networks, files and ports.

It knows the part of the format that compose.yml uses, and refuses what it does not know, so that a
misspelt key is found. Usage: check_compose.py FILE
"""

import ipaddress
import pathlib
import sys

import yaml

SERVICE_KEYS = {
    "build", "command", "depends_on", "entrypoint", "environment", "healthcheck", "image",
    "network_mode", "networks", "ports", "restart", "stop_grace_period", "user", "volumes",
}
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}

path = pathlib.Path(sys.argv[1])
compose = yaml.safe_load(path.read_text())
services = compose["services"]
settings = (path.parent / "../docs/CONFIGURATION.md").read_text()
faults = []


def check(holds, what):
    if not holds:
        faults.append(what)


def check_build(name, service):
    build = service.get("build")
    if build is None:
        return
    context = path.parent / build["context"]
    check((context / build["dockerfile"]).is_file(), f"{name}: no {build['dockerfile']}")


def check_depends(name, service):
    for other, how in service.get("depends_on", {}).items():
        check(other in services, f"{name}: depends on {other}, which is no service")
        condition = how["condition"]
        check(condition in CONDITIONS, f"{name}: unknown condition {condition}")
        is_tested = "healthcheck" in services.get(other, {})
        check(condition != "service_healthy" or is_tested, f"{name}: {other} has no healthcheck")


def check_volumes(name, service):
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("."):
            check((path.parent / source).is_file(), f"{name}: no file {source}")
        else:
            check(source in compose["volumes"], f"{name}: no volume {source}")


def check_networks(name, service):
    networks = service.get("networks", [])
    for network in networks:
        check(network in compose["networks"], f"{name}: no network {network}")
        if isinstance(networks, dict):
            subnet = compose["networks"][network]["ipam"]["config"][0]["subnet"]
            address = ipaddress.ip_address(networks[network]["ipv4_address"])
            check(address in ipaddress.ip_network(subnet), f"{name}: {address} is not in {subnet}")


def check_addresses(name, service):
    """Hosts that settings name are services, or addresses of some."""
    known = set(services) | {
        network["ipv4_address"]
        for other in services.values()
        if isinstance(other.get("networks"), dict)
        for network in other["networks"].values()
    }
    for key, value in service.get("environment", {}).items():
        for place in str(value).split(","):
            host, colon, port = place.rpartition(":")
            if colon and port.isdigit():
                check(host in known, f"{name}: {key} names {host}, which is nobody")


def check_settings(name, service):
    """Settings are some that the engine knows."""
    for key in service.get("environment", {}):
        if key.startswith("ZAJIL__"):
            setting = key.removeprefix("ZAJIL__").replace("__", ".").lower()
            check(f"| `{setting}` |" in settings, f"{name}: {key} is no setting")


published = [port.rsplit(":", 1)[0] for s in services.values() for port in s.get("ports", [])]
check(len(published) == len(set(published)), "a port is published twice")
for name, service in services.items():
    unknown = set(service) - SERVICE_KEYS
    check(not unknown, f"{name}: unknown keys {sorted(unknown)}")
    check("image" in service, f"{name}: no image")
    for part in (check_build, check_depends, check_volumes, check_networks, check_addresses,
                 check_settings):
        part(name, service)
used = {v.split(":")[0] for s in services.values() for v in s.get("volumes", [])}
check(set(compose["volumes"]) <= used, f"unused volumes: {set(compose['volumes']) - used}")

for fault in faults:
    print(f"{path}: {fault}", file=sys.stderr)
sys.exit(1 if faults else 0)
