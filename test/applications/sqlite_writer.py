"""sqlite_writer.py PORT FILE: writes each line "N" that it gets into a SQLite database, one transaction for each, and answers when
that is done: "N M", M being how many lines the connection has sent. The database is in WAL mode, whose index is a shared mapping.
"""
import socket
import sqlite3
import sys
import threading


def serve(connection, file):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    database = sqlite3.connect(file, isolation_level=None, timeout=60)
    client = connection.getpeername()[1]
    with connection, connection.makefile("rw", encoding="ascii", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO rows (client, number) VALUES (?, ?)", (client, int(line)))
            database.execute("COMMIT")
            lines.write(f"{line.rstrip()} {number}\n")
            lines.flush()


def main():
    port, file = int(sys.argv[1]), sys.argv[2]
    database = sqlite3.connect(file, isolation_level=None)
    if database.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
        sys.exit("no WAL here")
    database.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY AUTOINCREMENT, client INTEGER, number INTEGER)")
    listener = socket.create_server(("", port))
    print(f"sqlite ready port={port}", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, file), daemon=True).start()


main()
