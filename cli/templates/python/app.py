"""A task takes bytes and returns bytes. If it raises Err, this is the error message for the submitter. The
functions that the worker offers are in wit/world.wit.
"""

import wit_world
from componentize_py_types import Err
from wit_world.imports import host


class WitWorld(wit_world.WitWorld):
    def run(self, input: bytes) -> bytes:
        name = input.decode().strip()
        if not name:
            raise Err("say whom to greet")
        host.log(host.Level.INFO, f"greeting {name}")
        host.progress(1, 1)
        return f"Hello, {name}!".encode()
