//! `squall pack test` on a small pack of our own: an action, a sensor, an alias, a requirement.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use e2e::binary;

const FILES: &[(&str, &str)] = &[
    ("pack.yaml", "---\nref: tested\nname: tested\nversion: 1.0.0\nauthor: A\nemail: a@a.example\n"),
    ("actions/lib/__init__.py", ""),
    ("actions/lib/words.py", "def shout(text):\n    return text.upper()\n"),
    // must not take the place of the standard library's
    ("actions/inspect.py", "raise RuntimeError('the standard library has this one')\n"),
    (
        "actions/greet.py",
        "from lib.words import shout\nfrom st2common.runners.base_action import Action\n\n\n\
         class Greet(Action):\n    def run(self, name):\n        self.action_service.set_value('last', name)\n        \
         return True, shout(self.config['greeting'] + ' ' + name)\n",
    ),
    (
        "sensors/count.py",
        "from st2reactor.sensor.base import PollingSensor\n\n\nclass Count(PollingSensor):\n    \
         def setup(self):\n        pass\n\n    def poll(self):\n        \
         self.sensor_service.dispatch('tested.count', {'n': 1})\n\n    def cleanup(self):\n        pass\n\n    \
         add_trigger = update_trigger = remove_trigger = lambda self, trigger: None\n",
    ),
    ("aliases/greet.yaml", "---\nname: greet\naction_ref: tested.greet\nformats:\n  - greet {{ name=World }}\n"),
    ("tests/fixtures/name.txt", "ana"),
    (
        "tests/test_greet.py",
        "from st2tests.base import BaseActionTestCase\n\nfrom greet import Greet\n\n\n\
         class GreetTest(BaseActionTestCase):\n    action_cls = Greet\n\n    def test_greets(self):\n        \
         action = self.get_action_instance({'greeting': 'hi'})\n        \
         self.assertEqual(action.run(self.get_fixture_content('name.txt')), (True, 'HI ANA'))\n        \
         self.assertEqual(self.action_service.get_value('last'), 'ana')\n",
    ),
    (
        "tests/test_count.py",
        "from st2tests.base import BaseActionAliasTestCase, BaseSensorTestCase\n\nfrom count import Count\n\n\n\
         class CountTest(BaseSensorTestCase):\n    sensor_cls = Count\n\n    def test_counts(self):\n        \
         self.get_sensor_instance().poll()\n        self.assertTriggerDispatched('tested.count', {'n': 1})\n\n\n\
         class AliasTest(BaseActionAliasTestCase):\n    action_alias_name = 'greet'\n\n    def test_alias(self):\n        \
         self.assertExtractedParametersMatch('greet {{ name=World }}', 'greet', {'name': 'World'})\n",
    ),
    (
        "tests/test_bad.py",
        "import unittest\n\n\nclass Bad(unittest.TestCase):\n    def test_bad(self):\n        self.fail('no')\n",
    ),
];

/// `squall pack test` with a cache of its own.
fn test(pack: &Path, arguments: &[&str]) -> Result<Output> {
    let cache = pack.parent().context("a parent")?.join("cache");
    let mut command = Command::new(binary("squall"));
    command.args(["pack", "test"]).arg(pack).args(arguments).env("XDG_CACHE_HOME", cache);
    Ok(command.output()?)
}

fn shown(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn write(pack: &Path) -> Result<()> {
    for (name, text) in FILES {
        let path = pack.join(name);
        std::fs::create_dir_all(path.parent().context("a parent")?)?;
        std::fs::write(path, text)?;
    }
    Ok(())
}

#[test]
fn the_tests_of_a_pack_run_with_what_the_machine_has() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let pack = folder.path().join("tested");
    std::fs::create_dir_all(&pack)?;
    let none = test(&pack, &["-x"])?;
    ensure!(none.status.success() && shown(&none).contains("No tests found."), "{}", shown(&none));
    write(&pack)?;
    for file in ["test_greet.py", "test_greet.py::GreetTest::test_greets", "test_count.py"] {
        let good = test(&pack, &["-x", "-f", file])?;
        ensure!(good.status.success(), "{file}: {}", shown(&good));
    }
    let all = test(&pack, &["-x"])?;
    ensure!(all.status.code() == Some(1) && shown(&all).contains("test_bad"), "{}", shown(&all));
    let missing = Command::new(binary("squall")).args(["pack", "test", "no_such", "--data-dir"]).arg(&pack).output()?;
    ensure!(shown(&missing).contains("no_such is neither a directory nor a pack in"), "{}", shown(&missing));
    let left: Vec<_> = std::fs::read_dir(pack.join("actions"))?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(!left.iter().any(|name| name == "__pycache__"), "the pack is littered: {left:?}");
    Ok(())
}

#[test]
fn the_tests_of_a_pack_have_a_virtualenv_with_its_requirements() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let pack = folder.path().join("tested");
    write(&pack)?;
    std::fs::remove_file(pack.join("tests/test_bad.py"))?;
    std::fs::write(pack.join("requirements-tests.txt"), "iniconfig\n")?;
    std::fs::write(
        pack.join("tests/test_needs.py"),
        "import iniconfig\nimport pytest\n\n\ndef test_it():\n    pass\n",
    )?;
    let all = test(&pack, &["-t"])?;
    let text = shown(&all);
    if text.contains("No matching distribution") || text.contains("Failed to establish a new connection") {
        println!("SKIPPED: no package index can be reached");
        return Ok(());
    }
    ensure!(all.status.success() && text.contains("4 passed") && text.contains("slowest durations"), "{text}");
    let again = test(&pack, &["-j", "-f", "test_greet.py"])?;
    ensure!(again.status.success() && shown(&again).contains("1 passed"), "{}", shown(&again));
    ensure!(!shown(&again).contains("Preparing"), "{}", shown(&again));
    Ok(())
}
