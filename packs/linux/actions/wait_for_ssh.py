"""Waits until a host takes SSH connections."""

import time

from st2common.runners.base_action import Action


class WaitForSSH(Action):
    def run(
        self,
        hostname,
        port=22,
        username="stanley",
        password=None,
        keyfile=None,
        ssh_timeout=5,
        sleep_delay=20,
        retries=10,
    ):
        import socket

        for attempt in range(retries):
            try:
                with socket.create_connection((hostname, port), timeout=ssh_timeout) as connection:
                    connection.settimeout(ssh_timeout)
                    if connection.recv(4) == b"SSH-":
                        return True
                reason = "the other side is no SSH server"
            except OSError as error:
                reason = str(error)
            self.logger.info("Attempt %d of %d: %s", attempt + 1, retries, reason)
            time.sleep(sleep_delay)
        raise Exception("Exceeded max retries (%s)" % retries)
