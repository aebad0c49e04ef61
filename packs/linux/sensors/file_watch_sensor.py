"""New lines of files that rules ask for."""

import os
import threading

from st2reactor.sensor.base import Sensor

PAUSE = 0.1


class FileWatchSensor(Sensor):
    def setup(self):
        self._logger = self.sensor_service.get_logger(name=self.__class__.__name__)
        self._watched = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def run(self):
        while not self._stopped.wait(PAUSE):
            with self._lock:
                watched = list(self._watched.values())
            for watch in watched:
                self._read(watch)

    def _read(self, watch):
        try:
            with open(watch["path"], encoding="utf-8", errors="replace") as file:
                if os.fstat(file.fileno()).st_size < watch["place"]:
                    # The file was cut: it begins anew.
                    watch["place"] = 0
                file.seek(watch["place"])
                text = file.read()
                whole, newline, _rest = text.rpartition("\n")
                watch["place"] += len((whole + newline).encode("utf-8"))
        except OSError as error:
            self._logger.debug("%s: %s", watch["path"], error)
            return
        for line in whole.splitlines() if newline else []:
            payload = {"file_path": watch["path"], "file_name": os.path.basename(watch["path"]), "line": line}
            self.sensor_service.dispatch(trigger=watch["trigger"], payload=payload)

    def cleanup(self):
        self._stopped.set()

    def add_trigger(self, trigger):
        path = trigger["parameters"].get("file_path")
        if not path:
            self._logger.error("the trigger %s names no file", trigger["ref"])
            return
        place = os.path.getsize(path) if os.path.exists(path) else 0
        with self._lock:
            self._watched[trigger["ref"]] = {"path": path, "place": place, "trigger": trigger["ref"]}

    def update_trigger(self, trigger):
        self.add_trigger(trigger)

    def remove_trigger(self, trigger):
        with self._lock:
            self._watched.pop(trigger["ref"], None)
