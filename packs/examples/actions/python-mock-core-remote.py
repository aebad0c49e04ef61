"""What a command on several hosts would return."""

from st2common.runners.base_action import Action


class MockCoreRemote(Action):
    def run(self, cmd=None, hosts=None, hosts_dict=None):
        if hosts_dict:
            return hosts_dict
        if not hosts:
            raise ValueError("one of hosts and hosts_dict is needed")
        answer = {"failed": False, "succeeded": True, "return_code": 0, "stdout": cmd, "stderr": ""}
        return {host.strip(): dict(answer) for host in hosts.split(",")}
