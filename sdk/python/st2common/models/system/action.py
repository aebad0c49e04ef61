"""Command lines of scripts, as the shell runners build them."""

from typing import Any, Dict, List, Optional, Union

from st2common.util.shell import quote_unix

__all__ = ["ShellScriptAction"]

# The user whom commands run as unless another one is named.
SYSTEM_USER = "stanley"


class ShellScriptAction:
    """A script with named and positional arguments."""

    def __init__(
        self,
        name: str,
        action_exec_id: str,
        script_local_path_abs: str,
        named_args: Optional[Dict[str, Any]] = None,
        positional_args: Union[List[Any], str, None] = None,
        env_vars: Optional[Dict[str, str]] = None,
        user: Optional[str] = None,
        sudo: bool = False,
        timeout: Optional[int] = None,
        cwd: Optional[str] = None,
        sudo_password: Optional[str] = None,
    ) -> None:
        self.name = name
        self.action_exec_id = action_exec_id
        self.script_local_path_abs = script_local_path_abs
        self.named_args = named_args or {}
        self.positional_args = positional_args or []
        self.env_vars = env_vars or {}
        self.user = user
        self.sudo = sudo
        self.timeout = timeout
        self.cwd = cwd
        self.sudo_password = sudo_password

    def get_full_command_string(self) -> str:
        """What is given to the shell."""
        arguments = self._get_script_arguments(self.named_args, self.positional_args)
        command = quote_unix(self.script_local_path_abs)
        if arguments:
            command += " " + arguments
        if self.sudo:
            flags = "-S -E" if self.sudo_password else "-E"
            return "sudo %s -- bash -c %s" % (flags, quote_unix(command))
        if self.user and self.user != SYSTEM_USER:
            return "sudo -E -H -u %s -- bash -c %s" % (self.user, quote_unix(command))
        return command

    def _get_script_arguments(
        self, named_args: Optional[Dict[str, Any]] = None, positional_args: Union[List[Any], str, None] = None
    ) -> str:
        words = []
        for name, value in (named_args or {}).items():
            if value is None or value is False or (isinstance(value, str) and not value):
                continue
            words.append(name if value is True else "%s=%s" % (quote_unix(name), quote_unix(value)))
        if isinstance(positional_args, str):
            if positional_args:
                words.append(positional_args)
        else:
            words.extend(quote_unix("" if value is None else value) for value in positional_args or ())
        return " ".join(words)
