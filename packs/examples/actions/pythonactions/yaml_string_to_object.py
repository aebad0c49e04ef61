"""YAML text to an object."""

from st2common.runners.base_action import Action


class YamlStringToObject(Action):
    def run(self, yaml_str=None):
        import yaml

        return yaml.safe_load(yaml_str)
