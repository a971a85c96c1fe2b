"""The command an agent's hook runs: hand one event to the recorder, give the agent its answer.

Run as ``python -I -S .../hook_client.py SOCKET PID AGENT EVENT`` with the event on standard input.
Rules kept here:

- Only the interpreter's built-in modules are imported: this process starts twice per tool call, and every
  import is paid by the agent. A test reads ``sys.modules``.
- It decides nothing. Whatever goes wrong ends in a non-zero exit, which the shell line around it turns into a
  denial (``|| { echo ...; exit 2; }``): agents let a call pass when a hook fails in any other way.
- It talks to the recorder's own process only: an agent could put a socket of its own in its place.
- On allow it prints nothing.
"""

import _socket
import posix
import sys


def _read_all(fd: int) -> bytes:
    chunks = []
    while chunk := posix.read(fd, 1 << 16):
        chunks.append(chunk)
    return b"".join(chunks)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[posix.write(fd, data) :]


def ask(socket_path: str, pid: int, agent: str, event: str, payload: bytes) -> tuple[int, bytes, bytes]:
    """Send one event and wait for the answer.

    Returns:
        Exit code, standard output and standard error that the agent is to see.

    Raises:
        OSError: The recorder cannot be reached or hung up before it answered.
        ValueError: The answer is not one of ours.
    """
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.connect(socket_path)
    if hasattr(_socket, "SO_PEERCRED"):
        # struct ucred (unix(7)) begins with the process that listens; 0 is one outside our process namespace.
        raw = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        if int.from_bytes(raw[:4], sys.byteorder) not in (0, pid):
            raise OSError("another process listens in its place")
    connection.sendall(b"AG1 hook %s %s %d\n" % (agent.encode(), event.encode(), len(payload)) + payload)
    answer = b""
    while chunk := connection.recv(1 << 16):
        answer += chunk
    connection.close()
    head, newline, rest = answer.partition(b"\n")
    code, out_size, err_size = (int(number) for number in head.split(b" "))
    if not newline or len(rest) != out_size + err_size:
        raise ValueError("the recorder's answer was cut off")
    return code, rest[:out_size], rest[out_size:]


def main(argv: list[str]) -> int:
    """Run the client; return its exit code."""
    try:
        _, socket_path, pid, agent, event = argv
        code, out, err = ask(socket_path, int(pid), agent, event, _read_all(0))
        _write_all(1, out)
        _write_all(2, err)
    except (OSError, ValueError) as error:
        _write_all(2, b"agentgov: the recorder did not answer: %s\n" % str(error).encode("ascii", "replace"))
        return 1
    return code


if __name__ == "__main__":
    posix._exit(main(sys.argv))
