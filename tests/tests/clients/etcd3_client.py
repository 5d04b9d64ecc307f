"""The Python client etcd3 (gRPC) against the store at HOST:PORT: keys, transactions, watches, leases, locks, members,
alarms, a snapshot. Ends with an error at the first surprise.
"""

import io
import sys
import threading
import time

import etcd3

LIMIT = 30


def check(what, holds):
    if not holds:
        sys.exit(f"etcd3: not so: {what}")
    print(f"etcd3: {what}", flush=True)


def until(what, condition):
    """Waits for a condition that the other side brings about."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            check(f"{what}, within {LIMIT} s", False)
        time.sleep(0.05)
    check(what, True)


def keys(client):
    check("a key that is not there", client.get("k/a") == (None, None))
    client.put("k/a", "1")
    client.put("k/b", b"\x00\xff")
    value, meta = client.get("k/a")
    check("a value and its version", (value, meta.version) == (b"1", 1))
    check("bytes of any kind", client.get("k/b")[0] == b"\x00\xff")
    found = [meta.key for _, meta in client.get_prefix("k/", sort_order="descend")]
    check("a prefix, backwards", found == [b"k/b", b"k/a"])
    check("a range", [value for value, _ in client.get_range("k/a", "k/b")] == [b"1"])
    check("the previous value", client.put("k/a", "2", prev_kv=True).prev_kv.value == b"1")
    check("only one creates", client.put_if_not_exists("k/c", "1") and not client.put_if_not_exists("k/c", "2"))
    check("compare and swap", client.replace("k/a", "2", "3") and not client.replace("k/a", "2", "4"))
    check("delete", client.delete("k/c") and not client.delete("k/c"))
    check("delete a prefix", client.delete_prefix("k/").deleted == 2)


def transactions(client):
    client.put("t/a", "1")
    of = client.transactions
    done, answers = client.transaction(
        compare=[of.value("t/a") == "1", of.version("t/a") > 0, of.create("t/none") == 0],
        success=[of.put("t/a", "2"), of.get("t/a")],
        failure=[of.delete("t/a")],
    )
    check("a transaction that succeeds", done and answers[1][0][0] == b"2")
    done, answers = client.transaction(
        compare=[of.mod("t/a") == 1],
        success=[],
        failure=[of.txn(compare=[of.value("t/a") == "2"], success=[of.put("t/b", "nested")], failure=[])],
    )
    check("a nested one, in the branch of failure", not done and client.get("t/b")[0] == b"nested")


def watches(client):
    events, cancel = client.watch_prefix("w/", prev_kv=True)
    client.put("w/a", "1")
    client.put("w/a", "2")
    client.delete("w/a")
    seen = [next(events) for _ in range(3)]
    check("events in order", [event.value for event in seen] == [b"1", b"2", b""])
    check("with what was before", [event.prev_value for event in seen] == [b"", b"1", b"2"])
    check("the last is a deletion", isinstance(seen[2], etcd3.events.DeleteEvent))
    cancel()
    check("a cancelled watch ends", list(events) == [])
    events, cancel = client.watch("w/a", start_revision=seen[1].mod_revision)
    check("history is told", next(events).value == b"2")
    cancel()
    called = threading.Event()
    number = client.add_watch_callback("w/b", lambda response: called.set())
    client.put("w/b", "1")
    check("a callback is called", called.wait(LIMIT))
    client.cancel_watch(number)


def leases(client):
    lease = client.lease(2)
    client.put("l/a", "1", lease=lease)
    check("a lease and its key", lease.granted_ttl == 2 and lease.keys == [b"l/a"])
    end = time.monotonic() + 4
    while time.monotonic() < end:
        # Kept alive for longer than it was granted for.
        answers = list(lease.refresh())
        time.sleep(0.5)
    check("it is kept alive", answers[0].TTL == 2 and client.get("l/a")[0] == b"1")
    until("it ends with its key when it is not", lambda: client.get("l/a") == (None, None))
    lease = client.lease(600)
    client.put("l/b", "1", lease=lease)
    lease.revoke()
    check("it is revoked with its key", client.get("l/b") == (None, None))


def locks(client, other):
    lock = client.lock("mutex", ttl=10)
    check("a lock is taken", lock.acquire(timeout=5) and lock.is_acquired())
    second = other.lock("mutex", ttl=10)
    check("by one only", not second.acquire(timeout=0.5))
    waits = threading.Thread(target=lambda: second.acquire(timeout=LIMIT))
    waits.start()
    lock.release()
    waits.join()
    check("who waits gets it", second.is_acquired() and not lock.is_acquired())
    second.release()


def maintenance(client):
    status = client.status()
    check("a version and a leader", status.version.startswith("3.") and status.leader is not None)
    check("members", [member.name for member in client.members] == ["default"])
    check("no alarms", list(client.list_alarms()) == [])
    raised = client.create_alarm()
    check("an alarm is raised", len(raised) == 1)
    try:
        client.put("m/a", "1")
        check("writes are refused then", False)
    except etcd3.exceptions.Etcd3Exception:
        pass
    except Exception as error:
        check("writes are refused then", "database space exceeded" in str(error))
    client.disarm_alarm()
    client.put("m/a", "1")
    check("the alarm is taken back", list(client.list_alarms()) == [])
    client.defragment()
    client.hash()
    client.compact(client.get("m/a")[1].mod_revision)
    file = io.BytesIO()
    client.snapshot(file)
    check("a snapshot", len(file.getvalue()) > 512)


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    client, other = (etcd3.client(host=host, port=int(port), timeout=LIMIT) for _ in range(2))
    keys(client)
    transactions(client)
    watches(client)
    leases(client)
    locks(client, other)
    maintenance(client)


if __name__ == "__main__":
    main()
