"""The published port: nothing but the fleet's calls comes through, however it is asked."""

import asyncio
import threading

import pytest

from consilium.deploy.gateway import CALLS, ConnectionLimits, Denied, Gateway, read_head

GOOD = b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
REFUSED_LINES = [
    "POST /v1/control/start-run HTTP/1.1",
    "POST /v1/control/register-node HTTP/1.1",
    "POST /v1/runtime/acquire-task HTTP/1.1",
    "POST /v1/fleet/register-node HTTP/1.1",
    "POST /v1/fleet/unregister-node HTTP/1.1",
    "POST /v1/fleet/../control/start-run HTTP/1.1",
    "POST /v1/fleet/%2e%2e/control/start-run HTTP/1.1",
    "POST /v1/fleet/..%2fcontrol/start-run HTTP/1.1",
    "POST //v1/fleet/pull-messages HTTP/1.1",
    "POST /v1//fleet/pull-messages HTTP/1.1",
    "POST /v1/fleet/pull-messages/ HTTP/1.1",
    "POST /v1/fleet/pull-messages?x=/v1/control HTTP/1.1",
    "POST /v1/fleet/pull-messages#x HTTP/1.1",
    "POST /V1/FLEET/pull-messages HTTP/1.1",
    "POST /v1/fleet\\..\\control\\start-run HTTP/1.1",
    "POST https://link/v1/fleet/pull-messages HTTP/1.1",
    "POST http://127.0.0.1:8000/v1/control/start-run HTTP/1.1",
    "CONNECT 127.0.0.1:8000 HTTP/1.1",
    "GET /v1/fleet/pull-messages HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "GET /docs HTTP/1.1",
    "GET /openapi.json HTTP/1.1",
    "PRI * HTTP/2.0",
    "POST /v1/fleet/pull-messages HTTP/1.0",
    "POST /v1/fleet/pull-messages HTTP/2",
    "POST  /v1/fleet/pull-messages HTTP/1.1",
    " POST /v1/fleet/pull-messages HTTP/1.1",
    "POST /v1/fleet/pull-messages\tHTTP/1.1",
    "post /v1/fleet/pull-messages HTTP/1.1",
]
REFUSED_FIELDS = [
    "Transfer-Encoding: chunked",
    "transfer-encoding: identity",
    "Transfer-Encoding : chunked",
    "Content-Length: 4",
    "Content-Length: 5",
    "Content-Length : 5",
    "Upgrade: h2c",
    "Connection: upgrade",
    "Connection: content-length",
    "Expect: 100-continue",
    "TE: trailers",
    " folded: onto the line before",
    "no colon at all",
    "bad name: x",
    "x: a\nPOST /v1/control/start-run HTTP/1.1",
    "x: a\rb",
    "x: \0",
    "x: caf\u00e9",
    "Host: another",
]


@pytest.mark.parametrize("line", REFUSED_LINES)
def test_a_first_line_that_is_not_a_nodes_call_is_refused(line):
    with pytest.raises(Denied):
        read_head(GOOD.replace(GOOD.split(b"\r\n")[0], line.encode()), ConnectionLimits())


@pytest.mark.parametrize("field", REFUSED_FIELDS)
def test_a_field_that_two_readers_could_read_in_two_ways_is_refused(field):
    with pytest.raises(Denied):
        read_head(GOOD.replace(b"Host: x\r\n", b"Host: x\r\n" + field.encode("latin-1") + b"\r\n"), ConnectionLimits())


@pytest.mark.parametrize("length", [b"", b"-1", b"+4", b"4,4", b"0x4", b"4 4", b"9" * 13])
def test_a_length_that_is_no_number_is_refused(length):
    with pytest.raises(Denied):
        read_head(GOOD.replace(b"Length: 4", b"Length: " + length), ConnectionLimits())


def test_a_body_beyond_the_limit_is_refused_before_it_is_read():
    with pytest.raises(Denied) as caught:
        read_head(GOOD.replace(b"Length: 4", b"Length: 101"), ConnectionLimits(body=100))
    assert caught.value.status == 413


@pytest.mark.parametrize("call", sorted(CALLS))
def test_a_nodes_call_passes_with_its_own_fields_and_no_others(call):
    raw = GOOD.replace(b"/v1/fleet/pull-messages", call.encode()).replace(b"Host: x", b"Host: x\r\nX-Key: abc=")
    head = read_head(raw, ConnectionLimits())
    assert (head.call, head.length, head.fields) == (call, 4, ((b"x-key", b"abc="),))


class Upstream:
    """A link that writes down what it was asked, and answers each request with its number."""

    def __init__(self):
        self.heard = []

    async def serve(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.heard.append(head.split(b" ")[1] + b" " + await reader.readexactly(length))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % len(self.heard))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@pytest.fixture
def door():
    """A door on a free port, without TLS, and the link behind it."""
    link, loop = Upstream(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result(300)

    behind = run(asyncio.start_server(link.serve, "127.0.0.1", 0))
    before = Gateway(behind.sockets[0].getsockname(), tls=None, trust=None, limits=ConnectionLimits(seconds=2))
    front = run(before.listen("127.0.0.1", 0))

    async def send(data):
        reader, writer = await asyncio.open_connection(*front.sockets[0].getsockname())
        writer.write(data)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return answer

    yield lambda data: run(send(data)), link.heard

    async def end():
        front.close()
        behind.close()
        await asyncio.sleep(0)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    run(end())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def request(path, body=b"abcd", more=b""):
    return b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n%s" % (path, len(body), more, body)


def test_requests_in_one_connection_are_each_looked_at(door):
    send, heard = door
    answer = send(request(b"/v1/fleet/get-run") + request(b"/v1/fleet/get-fab") + request(b"/v1/control/start-run"))
    assert heard == [b"/v1/fleet/get-run abcd", b"/v1/fleet/get-fab abcd"]
    assert answer.count(b"200 OK") == 2
    assert b"403 Forbidden" in answer


def test_a_request_hidden_in_a_body_stays_a_body(door):
    send, heard = door
    hidden = request(b"/v1/control/start-run")
    send(request(b"/v1/fleet/push-object", hidden))
    assert heard == [b"/v1/fleet/push-object " + hidden]


@pytest.mark.parametrize("more", [b"Transfer-Encoding: chunked\r\n", b"Content-Length: 0\r\n"])
def test_a_request_of_two_lengths_goes_nowhere(door, more):
    send, heard = door
    answer = send(request(b"/v1/fleet/push-object", b"0\r\n\r\n" + request(b"/v1/control/start-run"), more))
    assert heard == []
    assert answer.startswith(b"HTTP/1.1 400")


def test_a_link_that_is_away_is_an_answer_that_says_so(door):
    async def alone():
        front = await Gateway(("127.0.0.1", 1), tls=None, trust=None).listen("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*front.sockets[0].getsockname())
        writer.write(request(b"/v1/fleet/get-run"))
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        front.close()
        await asyncio.sleep(0.05)
        return answer

    assert asyncio.run(alone()).startswith(b"HTTP/1.1 503")


def test_a_body_and_an_answer_have_the_time_of_a_slow_line(door, monkeypatch):
    """Not that of a head: a site whose line carries 5 MiB in five minutes would be cut off every time."""
    send, _ = door
    assert ConnectionLimits().patience(5 * 2**20) == 60.0 + 320.0
    given, real = [], asyncio.wait_for

    def noted(work, seconds):
        given.append(seconds)
        return real(work, seconds)

    monkeypatch.setattr(asyncio, "wait_for", noted)
    answer = send(request(b"/v1/fleet/push-object", b"x" * 4096))
    assert {ConnectionLimits(seconds=2).patience(size) for size in (4096, len(answer))} <= set(given)


def test_a_door_that_lets_all_through_would_be_noticed():
    assert read_head(
        GOOD.replace(b"fleet/pull-messages", b"control/start-run"),
        ConnectionLimits(),
        frozenset({"/v1/control/start-run"}),
    )
