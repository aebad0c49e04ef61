"""What making a virtual machine would return."""

import uuid

from st2common.runners.base_action import Action


class MockCreateVM(Action):
    def run(self, vm_name, ip, cpu_cores=1, memory_mb=1024):
        return {
            "vm_id": "vm" + uuid.uuid4().hex[:12],
            "name": vm_name,
            "ip": ip,
            "cpu_cores": cpu_cores,
            "memory_mb": memory_mb,
        }
