"""A new UUID as text."""

import uuid

from st2common.runners.base_action import Action

GENERATORS = {"uuid1": uuid.uuid1, "uuid4": uuid.uuid4}


class GenerateUUID(Action):
    def run(self, uuid_type="uuid4"):
        if uuid_type not in GENERATORS:
            raise ValueError("Unknown uuid_type \"%s\": known are uuid1 and uuid4" % uuid_type)
        return str(GENERATORS[uuid_type]())
