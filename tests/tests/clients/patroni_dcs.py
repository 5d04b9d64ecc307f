"""Patroni's own client of etcd (patroni.dcs.etcd3) against the store at HOST:PORT, without PostgreSQL.

Two members of one Patroni cluster: one takes the leader lock and keeps it, both read and write what Patroni writes,
the leader falls silent, its lease ends, and the other takes the lock. Ends with an error at the first surprise.
"""

import json
import os
import subprocess
import sys
import time

from patroni.dcs import get_dcs

TTL = 4
LIMIT = 40


def check(what, holds):
    if not holds:
        sys.exit(f"patroni: not so: {what}")
    print(f"patroni: {what}", flush=True)


def member(name, ctl=False):
    return get_dcs({
        "scope": "demo", "namespace": "/service/", "name": name, "ttl": TTL, "loop_wait": 1, "retry_timeout": 5,
        "patronictl": ctl, "etcd3": {"hosts": [sys.argv[1]]},
    })


def until(what, condition):
    """Waits for a condition that the other side brings about."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            check(f"{what}, within {LIMIT} s", False)
        time.sleep(0.1)
    check(what, True)


def be_the_silent_leader():
    """In a process of its own: takes the lock, says so, and is killed."""
    one = member("one")
    one.touch_member({"role": "primary", "state": "running"})
    one.get_cluster()
    check("one leads", one.attempt_to_acquire_leader())
    check("one keeps its lock", one.update_leader(one.get_cluster(), 100, None, None))
    print("leads", flush=True)
    parent = os.getppid()
    while os.getppid() == parent:
        # What keeps a leader is asked for again and again, until the process is killed.
        time.sleep(1)
        one.update_leader(one.get_cluster(), 100, None, None)


def main():
    leader = subprocess.Popen([sys.executable, __file__, sys.argv[1], "leader"], stdout=subprocess.PIPE, text=True)
    for line in leader.stdout:
        print(line, end="", flush=True)
        if line == "leads\n":
            break
    two = member("two")
    check("the cluster is initialized once", two.initialize(True, "7000000000000000001"))
    check("and not again", not two.initialize(True, "7000000000000000002"))
    check("configuration is written", two.set_config_value(json.dumps({"ttl": TTL})))
    check("a member is written", two.touch_member({"role": "replica", "state": "running"}))
    cluster = None

    def seen():
        nonlocal cluster
        cluster = two.get_cluster()
        return cluster.config and len(cluster.members) == 2 and cluster.leader
    until("all of it is seen by watch", seen)
    check("the system's id", cluster.initialize == "7000000000000000001")
    check("the configuration", cluster.config.data == {"ttl": TTL})
    check("the members", sorted(m.name for m in cluster.members) == ["one", "two"])
    check("the leader", cluster.leader_name == "one")
    check("the lock is held", not two.attempt_to_acquire_leader())
    version = cluster.config.modify_version
    check("an old version writes nothing", not two.set_config_value("{}", "1"))
    check("the known version writes", two.set_config_value('{"ttl":7}', version))
    check("a failover is asked for", two.manual_failover("one", "two"))
    until("the failover is seen", lambda: two.get_cluster().failover)
    check("the failover names both", (lambda f: (f.leader, f.candidate))(two.cluster.failover) == ("one", "two"))
    check("the failover is taken back", two.manual_failover(None, None, version=two.cluster.failover.version))
    until("it is gone", lambda: not two.get_cluster().failover)
    check("history is written", two.set_history_value("[[1,2,\"reason\"]]"))
    sync = two.write_sync_state("one", ["two"], None, version=None)
    check("synchronous standbys are written", sync)
    # Longer than the leader's lease: it is kept alive.
    two.watch(None, 1)
    deadline = time.monotonic() + TTL + 2
    led = True
    while led and time.monotonic() < deadline:
        two.touch_member({"role": "replica", "state": "running"})
        led = two.get_cluster().leader_name == "one"
        two.watch(two.cluster.leader and two.cluster.leader.version, 1)
    check("one still leads", led)
    leader.kill()
    leader.wait()

    def unlocked():
        two.touch_member({"role": "replica", "state": "running"})
        # Wakes when the leader's key goes.
        two.watch(two.get_cluster().leader and two.cluster.leader.version, 1)
        return two.get_cluster().is_unlocked()
    until("the silent leader's lock ends with its lease", unlocked)
    check("its member is gone, too", [m.name for m in two.cluster.members] == ["two"])
    check("two takes the lock", two.attempt_to_acquire_leader())
    until("two leads", lambda: two.get_cluster().leader_name == "two")
    check("two keeps its lock", two.update_leader(two.get_cluster(), 200, None, None))
    until("its position is seen", lambda: two.get_cluster().status.last_lsn == 200)
    check("two gives its lock up", two.delete_leader(two.get_cluster().leader))
    until("nobody leads", lambda: two.get_cluster().is_unlocked())
    ctl = member("ctl", ctl=True)
    check("patronictl sees the members", len(ctl.get_cluster().members) == 1)
    check("patronictl removes the cluster", ctl.delete_cluster())
    left = ctl.get_cluster()
    check("nothing is left", not (left.members or left.config or left.initialize or left.history))


if __name__ == "__main__":
    if sys.argv[2:] == ["leader"]:
        be_the_silent_leader()
    else:
        main()
