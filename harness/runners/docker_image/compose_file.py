"""The Compose file for runs of any number of roles, and what shaper=tc adds to it; both serve a Swarm too."""

from collections.abc import Sequence

from protocols.party import ROLES, Role

FILE, TC_FILE = "docker-compose.yml", "docker-compose.tc.yml"

HEAD = """\
# {names} and the harness by hand: the image, the entry point and the shaping of runner=docker.
{made}#
#   permbench docker build
#   (umask 077; openssl rand -hex 32 > permbench.secret)            what all of them know each other by
#   printf 'PERMBENCH_UID=%s\\nPERMBENCH_GID=%s\\n' "$(id -u)" "$(id -g)" > .env     who they are: you
#   mkdir -p results
#   docker compose up --abort-on-container-exit --exit-code-from harness
#   docker compose down -v
#
# The record is in ./results/runs. PERMBENCH_RUN says what to run, e.g.
#   PERMBENCH_RUN="{example}" docker compose up …
# With -f docker-compose.yml -f docker-compose.tc.yml, and shaper=tc in PERMBENCH_RUN, the kernel shapes.
#
# On a Swarm the same file spreads the roles over the nodes that bear their labels:
#   docker node update --label-add permbench.p0=yes NODE     and so on, for {labels}
#   export PERMBENCH_UID=1000 PERMBENCH_GID=1000             who owns ./results on the harness's node
#   docker stack deploy -c docker-compose.yml permbench          for shaper=tc: -c docker-compose.tc.yml too
# What shapes adds its delay to the network's own: take shaper=none on one that is slow by itself.
# ./results is then a folder of the harness's node.
version: "3.8"

x-party: &party
  image: ${{PERMBENCH_IMAGE:-permbench:0.1.0}}
  # No hyphen in such a text: a Swarm takes it for the sign of a default.
  user: "${{PERMBENCH_UID:?see the Compose file's head}}:${{PERMBENCH_GID:?see the Compose file's head}}"
  init: true
  read_only: true
  cap_drop: [ALL]
  security_opt: ["no-new-privileges:true"]
  sysctls: &sysctls
    net.ipv4.tcp_slow_start_after_idle: "0"
    net.ipv4.tcp_no_metrics_save: "1"
    net.ipv4.tcp_rmem: 4096 131072 67108864
    net.ipv4.tcp_wmem: 4096 16384 67108864
  volumes:
    - type: tmpfs
      target: /tmp
  networks: [wan]
  secrets:
    - source: permbench
      uid: "${{PERMBENCH_UID}}"
      gid: "${{PERMBENCH_GID}}"
      mode: 0400
  entrypoint: [/bin/sh, harness/runners/docker_image/start.sh, harness]

services:
"""
PARTY = """\
  {service}:
    <<: *party
    command: [join, {role}, "harness:7700", --secret-file, /run/secrets/permbench]
    deploy:
      endpoint_mode: dnsrr
      placement:
        constraints: ["node.labels.permbench.{service} == yes"]
"""
END = """\
  harness:
    <<: *party
    # Compose splits this as a shell does.
    command: >-
      run runner=remote runner.listen=0.0.0.0:7700 runner.secret_file=/run/secrets/permbench
      runner.shared_secret=true
      ${{PERMBENCH_RUN:{run}}}
    volumes:
      - type: tmpfs
        target: /tmp
      - ./results:/permbench/results
    deploy:
      endpoint_mode: dnsrr
      restart_policy:
        condition: none
      placement:
        constraints: ["node.labels.permbench.harness == yes"]

# Nobody outside has to do with what the roles say to each other.
networks:
  wan:
    internal: true

secrets:
  permbench:
    file: ./permbench.secret
"""
TC_HEAD = """\
# Beside docker-compose.yml: lets the parties shape their own interfaces, for shaper=tc.
version: "3.8"

services:
"""
TC_PARTY = """\
  {service}:
    cap_add: [NET_ADMIN]
"""
OF_THREE = "experiment=layer model=gpt2 network=puma", "-experiment=argmax experiment.n=10000"


def compose_files(roles: Sequence[Role]) -> dict[str, str]:
    """The text of each file, by name. Of other roles than the usual three PERMBENCH_RUN must say what is
    run: a system that has them."""
    names, made = ", ".join(roles), ""
    example, run = OF_THREE
    if tuple(roles) != ROLES:
        names, made = (
            f"{roles[0]} … {roles[-1]}",
            f"# Made by permbench docker compose {len(roles)}.\n",
        )
        example = f"system=shamir system.parties={len(roles)} experiment.n=10000"
        run = f"?say what to run, with a system of {len(roles)} roles"
    services = [role.lower() for role in roles]
    labels = ", ".join([*services[1:], "harness"])
    head = HEAD.format(names=names, made=made, example=example, labels=labels)
    parties = [PARTY.format(service=role.lower(), role=role) for role in roles]
    shaping = [TC_PARTY.format(service=service) for service in services]
    return {
        FILE: "".join([head, *parties, END.format(run=run)]),
        TC_FILE: "".join([TC_HEAD, *shaping]),
    }
