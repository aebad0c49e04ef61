"""Events from HTTP requests, with Flask."""

from st2reactor.sensor.base import Sensor


class EchoFlaskSensor(Sensor):
    HOST = "127.0.0.1"
    PORT = 5000

    def setup(self):
        from flask import Flask, request

        self._app = Flask(__name__)

        @self._app.route("/echo", methods=["POST"])
        def echo():
            payload = {"body": request.get_data(as_text=True)}
            self.sensor_service.dispatch(trigger="examples.echoflasksensor", payload=payload)
            return request.get_data()

    def run(self):
        self._app.run(host=self.HOST, port=self.PORT, threaded=True)

    def cleanup(self):
        pass

    def add_trigger(self, trigger):
        pass

    def update_trigger(self, trigger):
        pass

    def remove_trigger(self, trigger):
        pass
