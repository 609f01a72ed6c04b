"""Evaluates a NetworkPolicy as Kubernetes does. Shared by the tests of the chart."""

import ipaddress

NAMED_PORTS = {"grpc": 50051, "ops": 50052, "http-forward": 50053}


def pod(namespace, **labels):
    """A pod as a peer: its namespace and its labels."""
    return {"namespace": namespace, "labels": labels}


def allows(policy, direction, port, peer, protocol="TCP"):
    """Whether one of the rules allows a connection: direction is from or to, a peer is a pod or an address."""
    rules = policy.get("ingress" if direction == "from" else "egress") or []
    return any(_ports(rule, port, protocol) and _peers(rule.get(direction), peer) for rule in rules)


def _ports(rule, port, protocol):
    ports = rule.get("ports")
    return not ports or any(
        (NAMED_PORTS.get(each["port"], each["port"]), each["protocol"]) == (port, protocol) for each in ports
    )


def _peers(peers, peer):
    # No peers: every address.
    return not peers or any(_matches(each, peer) for each in peers)


def _matches(rule, peer):
    if isinstance(peer, str):
        block = rule.get("ipBlock")
        return bool(block) and ipaddress.ip_address(peer) in ipaddress.ip_network(block["cidr"])
    if "ipBlock" in rule:
        return False
    # Without a namespaceSelector: the policy's own namespace.
    if "namespaceSelector" in rule:
        selector = rule["namespaceSelector"].get("matchLabels", {})
        if not selector.items() <= {"kubernetes.io/metadata.name": peer["namespace"]}.items():
            return False
    elif peer["namespace"] != "prod":
        return False
    return rule.get("podSelector", {}).get("matchLabels", {}).items() <= peer["labels"].items()
