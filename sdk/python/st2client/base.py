"""The base of programs that talk to the API."""

import logging
import os
from typing import Any, Optional

from st2client.client import Client

__all__ = ["BaseCLIApp"]


class BaseCLIApp:
    """`get_client(args)` with the addresses and the user that the arguments name."""

    LOG = logging.getLogger(__name__)
    client: Optional[Client] = None

    def get_client(self, args: Any, debug: bool = False) -> Client:
        names = ("base_url", "auth_url", "api_url", "stream_url", "api_version", "cacert", "token", "api_key", "basic_auth")
        given = {name: getattr(args, name) for name in names if getattr(args, name, None)}
        self.client = Client(debug=debug, **given)
        return self.client

    def _get_auth_token(self, client: Client, username: str, password: str, cache_token: bool = False) -> str:
        """A new token for the password; `cache_token` is not heeded: `st2 login` keeps tokens."""
        token = client.tokens.create(_credentials(), auth=(username, password)).token
        os.environ["ST2_AUTH_TOKEN"] = token
        return token


def _credentials() -> Any:
    from st2client.models import Token

    return Token()
