// A chat bot's side of the conversation, with the client that Hubot's StackStorm adapter stands on (spec/chatops.md §6):
// logs in, loads the aliases, listens to announcements, and sends each line of standard input as a command. What it
// learns goes to standard output, a line of JSON each.
'use strict';

const readline = require('readline');
const st2client = require(process.env.BOT_CLIENT);

const say = (what, content) => console.log(JSON.stringify({ what, ...content }));
const env = process.env;
const api = st2client({
  api: env.ST2_API_URL, auth: env.ST2_AUTH_URL, stream: env.ST2_STREAM_URL, rejectUnauthorized: false,
});

async function logIn() {
  if (env.ST2_API_KEY) return api.setKey({ key: env.ST2_API_KEY });
  if (env.ST2_AUTH_TOKEN) return api.setToken({ token: env.ST2_AUTH_TOKEN });
  api.on('expiry', () => say('expiry', {}));
  const token = await api.authenticate(env.ST2_AUTH_USERNAME, env.ST2_AUTH_PASSWORD);
  say('token', { user: token.user, expiry: token.expiry });
}

// The bot's own matching: the first format whose words fit; what stands in braces fits anything.
function find(aliases, command) {
  for (const alias of aliases) {
    for (const format of alias.formats) {
      const text = typeof format === 'string' ? format : format.representation[0];
      const quoted = text.replace(/[.*+?^$()|[\]\\]/g, '\\$&');
      const pattern = quoted.replace(/\s*\{\{[^}]*=[^}]*\}\}\s*/g, '\\s*([\\s\\S]+?)?\\s*')
        .replace(/\s*\{\{[^}]*\}\}\s*/g, '\\s*([\\s\\S]+?)\\s*');
      if (new RegExp('^' + pattern + '$', 'i').test(command)) return { name: alias.name, format: text };
    }
  }
  return null;
}

async function main() {
  await logIn();
  const aliases = (await api.actionAlias.list({ limit: -1 })).filter((alias) => alias.enabled !== false);
  say('aliases', { names: aliases.map((alias) => alias.name) });
  const source = await api.stream.listen();
  source.onerror = (error) => say('stream-error', { status: error.status });
  source.addEventListener('st2.announcement__chatops', (event) => say('announcement', JSON.parse(event.data)));
  source.onopen = () => say('listening', {});
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const message = JSON.parse(line);
    const found = find(aliases, message.command);
    if (!found) {
      say('unknown', { command: message.command });
      continue;
    }
    try {
      const started = await api.aliasExecution.create({
        name: found.name, format: found.format, command: message.command, user: message.user,
        source_channel: message.room, source_context: message, notification_route: 'hubot',
      });
      say('started', { started });
    } catch (error) {
      say('refused', { status: error.status, text: error.message });
    }
  }
}

main().then(() => process.exit(0), (error) => {
  say('failed', { name: error.name, status: error.status, text: error.message });
  process.exit(1);
});
