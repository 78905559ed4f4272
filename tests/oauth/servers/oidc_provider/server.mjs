// oidc-provider, certified and not ours, as an authorization server for tests.
//
//   node server.mjs NODE_MODULES
//
// The first line of stdin is a JSON object:
//   tls                the server's {key, cert} and the clients' {ca}, in PEM
//   keys               public keys in PEM by algorithm, of the client "jwt"
//   certificate        in PEM, of the client "mtls"
//   subject            a DNS name, of the certificates of the client "mtls-ca"
// One line of JSON on stdout says that it is ready: its ports and its clients. It ends when stdin does.
//
// Every host name and port under which it is reached is an issuer of its own, over the same clients and
// tokens: so a proxy in front of it is an issuer too, and nothing has to be rewritten on the way.
import { X509Certificate, createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

console.info = console.error; // stdout is for the one line
console.log = console.error;

// --- Time: what the server takes for now can be moved ----------------------------------------------

const RealDate = Date;
let ahead = 0; // milliseconds
globalThis.Date = class extends RealDate {
  constructor(...given) {
    super(...(given.length ? given : [RealDate.now() + ahead]));
  }

  static now() {
    return RealDate.now() + ahead;
  }
};

const { default: Provider } = await import(
  pathToFileURL(join(process.argv[2], 'oidc-provider', 'lib', 'index.js'))
);

const lines = createInterface({ input: process.stdin });
lines.on('close', () => process.exit(0));
const given = JSON.parse(await new Promise((resolve) => lines.once('line', resolve)));

// --- What a test can change ------------------------------------------------------------------------

const initially = () => ({
  lifetimes: { access: 60, refresh: 86400, device: 600 }, // seconds
  interval: null, // of device polling; null leaves it out, as oidc-provider does
  failures: [], // {times, status, headers, body, grant_type}
  posts: [], // the grant_type of every request to the token endpoint
  complaints: [], // why requests were refused, which the answers hide
});
let state = initially();

// --- Storage ---------------------------------------------------------------------------------------

const stored = new Map();

class Adapter {
  constructor(model) {
    this.model = model;
  }

  key(id) {
    return `${this.model}:${id}`;
  }

  async upsert(id, payload, expiresIn) {
    const until = expiresIn === undefined ? Infinity : Date.now() + expiresIn * 1000;
    stored.set(this.key(id), { id, payload, until });
  }

  async find(id) {
    const row = stored.get(this.key(id));
    return row && row.until > Date.now() ? row.payload : undefined;
  }

  async consume(id) {
    const row = stored.get(this.key(id));
    row.payload.consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    stored.delete(this.key(id));
  }

  async revokeByGrantId(grantId) {
    for (const [key, { payload }] of stored) {
      if (payload.grantId === grantId) stored.delete(key);
    }
  }

  findBy(name, value) {
    for (const [key, { id, payload }] of stored) {
      if (key.startsWith(`${this.model}:`) && payload[name] === value) return this.find(id);
    }
    return undefined;
  }

  async findByUid(uid) {
    return this.findBy('uid', uid);
  }

  async findByUserCode(userCode) {
    return this.findBy('userCode', userCode);
  }
}

// --- Clients ---------------------------------------------------------------------------------------

const DEVICE = 'urn:ietf:params:oauth:grant-type:device_code';
const client = (client_id, method, grant_types, more = {}) => ({
  client_id,
  client_secret: method.startsWith('client_secret') ? `secret-of-${client_id}` : undefined,
  token_endpoint_auth_method: method,
  grant_types,
  redirect_uris: [],
  response_types: [],
  ...more,
});

function certified(pem) {
  const certificate = new X509Certificate(pem);
  const key = certificate.publicKey.export({ format: 'jwk' });
  return { keys: [{ ...key, x5c: [certificate.raw.toString('base64')] }] };
}

const clientKeys = Object.entries(given.keys).map(([alg, pem]) => ({
  ...createPublicKey(pem).export({ format: 'jwk' }),
  alg,
  use: 'sig',
  kid: alg,
}));

const BASIC = 'client_secret_basic';
const dpop = { dpop_bound_access_tokens: true };
const bound = { tls_client_certificate_bound_access_tokens: true };
const clients = {
  basic: client('basic', BASIC, ['client_credentials']),
  post: client('post', 'client_secret_post', ['client_credentials']),
  reserved: client('id: 100%+/?&= "ok"', BASIC, ['client_credentials'], {
    client_secret: "s:e%20c r+et/?&='<>~",
  }),
  jwt: client('jwt', 'private_key_jwt', ['client_credentials'], { jwks: { keys: clientKeys } }),
  rotating: client('rotating', BASIC, ['refresh_token']),
  'rotating-post': client('rotating-post', 'client_secret_post', ['refresh_token']),
  'rotating-public': client('rotating-public', 'none', ['refresh_token']),
  keeping: client('keeping', BASIC, ['refresh_token']),
  device: client('device', BASIC, [DEVICE, 'refresh_token']),
  'device-public': client('device-public', 'none', [DEVICE, 'refresh_token']),
  dpop: client('dpop', BASIC, ['client_credentials', 'refresh_token'], dpop),
  'dpop-nonce': client('dpop-nonce', BASIC, ['client_credentials', 'refresh_token'], dpop),
  'dpop-public': client('dpop-public', 'none', ['refresh_token'], dpop),
  mtls: client('mtls', 'self_signed_tls_client_auth', ['client_credentials', 'refresh_token'], {
    ...bound,
    jwks: certified(given.certificate),
  }),
  'mtls-ca': client('mtls-ca', 'tls_client_auth', ['client_credentials', 'refresh_token'], {
    ...bound,
    tls_client_auth_san_dns: given.subject,
  }),
  'mtls-bound': client('mtls-bound', BASIC, ['client_credentials', 'refresh_token'], bound),
};

// --- Providers -------------------------------------------------------------------------------------

const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const nonceSecret = randomBytes(32);
const cookieSecret = randomBytes(32).toString('hex');
const SCOPES = ['openid', 'offline_access', 'read', 'write'];
const RESOURCES = {
  'https://api.example/jwt': 'jwt',
  'https://api.example/opaque': 'opaque',
};

const configuration = {
  adapter: Adapter,
  clients: Object.values(clients),
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig', kid: 'server' }] },
  clientAuthMethods: [
    BASIC,
    'client_secret_post',
    'private_key_jwt',
    'none',
    'self_signed_tls_client_auth',
    'tls_client_auth',
  ],
  clockTolerance: 0,
  cookies: { keys: [cookieSecret] },
  scopes: SCOPES,
  findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
  rotateRefreshToken: (ctx) => ctx.oidc.client.clientId !== 'keeping',
  issueRefreshToken: (_, asking) => asking.grantTypeAllowed('refresh_token'),
  ttl: {
    AccessToken: () => state.lifetimes.access,
    ClientCredentials: () => state.lifetimes.access,
    RefreshToken: () => state.lifetimes.refresh,
    DeviceCode: () => state.lifetimes.device,
    Grant: 86400,
    IdToken: 3600,
    Interaction: 3600,
    Session: 86400,
  },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    dPoP: {
      enabled: true,
      nonceSecret,
      requireNonce: (ctx) => ctx.oidc.client?.clientId === 'dpop-nonce',
    },
    mTLS: {
      enabled: true,
      certificateBoundAccessTokens: true,
      selfSignedTlsClientAuth: true,
      tlsClientAuth: true,
      getCertificate: (ctx) => ctx.socket.getPeerX509Certificate?.(),
      certificateAuthorized: (ctx) => ctx.socket.authorized,
      certificateSubjectMatches: (ctx, property, expected) =>
        property === 'tls_client_auth_san_dns'
        && ctx.socket.getPeerX509Certificate().checkHost(expected) === expected,
    },
    resourceIndicators: {
      enabled: true,
      defaultResource: (_, __, oneOf) => oneOf?.[0],
      useGrantedResource: () => true,
      getResourceServerInfo: (_, resource) => {
        if (!(resource in RESOURCES)) throw new Error(`no such resource: ${resource}`);
        return {
          scope: 'read write',
          audience: resource,
          accessTokenTTL: state.lifetimes.access,
          accessTokenFormat: RESOURCES[resource],
          jwt: { sign: { alg: 'ES256' } },
        };
      },
    },
  },
};

function makeProvider(issuer) {
  const provider = new Provider(issuer, configuration);
  const complain = (_, error) => {
    state.complaints.push(`${error.error}: ${error.error_detail ?? error.error_description ?? ''}`);
  };
  provider.on('grant.error', complain);
  provider.on('device_authorization.error', complain);
  provider.on('server_error', (ctx, error) => {
    complain(ctx, { error: 'server_error', error_detail: error.message });
    console.error(error);
  });
  provider.use(async (ctx, next) => {
    await next();
    if (ctx.oidc?.route === 'device_authorization' && ctx.status === 200 && state.interval !== null) {
      ctx.body.interval = state.interval;
    }
  });
  return { provider, handle: provider.callback() };
}

const providers = new Map();

function providerOf(issuer) {
  if (!providers.has(issuer)) providers.set(issuer, makeProvider(issuer));
  return providers.get(issuer);
}

// --- HTTP ------------------------------------------------------------------------------------------

async function bodyOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function answer(response, status, headers, body) {
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  response.writeHead(status, { 'Content-Length': Buffer.byteLength(body) });
  response.end(body);
}

async function serve(request, response) {
  response.setHeader('Date', new Date().toUTCString()); // Node would tell the real time
  const { host = '' } = request.headers;
  if (!/^(127\.0\.0\.1|localhost)(:\d+)?$/.test(host)) {
    answer(response, 421, {}, 'loopback only\n');
    return;
  }
  if (request.method === 'POST' && request.url.split('?')[0] === '/token') {
    const body = await bodyOf(request);
    const grantType = new URLSearchParams(body.toString()).get('grant_type') ?? '';
    state.posts.push(grantType);
    const failure = state.failures.find(
      ({ times, grant_type: only }) => times > 0 && (only === null || only === grantType),
    );
    if (failure) {
      failure.times -= 1;
      answer(response, failure.status, failure.headers, failure.body);
      return;
    }
    request.body = body; // oidc-provider takes it from here, because the stream is at its end
  }
  const scheme = request.socket.encrypted ? 'https' : 'http';
  await providerOf(`${scheme}://${host}`).handle(request, response);
}

// --- Control ---------------------------------------------------------------------------------------

let origin = '';

async function find(token) {
  const { provider } = providerOf(origin);
  for (const model of [provider.AccessToken, provider.ClientCredentials, provider.RefreshToken]) {
    const found = await model.find(token);
    if (found) return found;
  }
  return undefined;
}

async function isAlive(token) {
  const { provider } = providerOf(origin);
  const found = await find(token);
  if (found) {
    const granted = found.grantId === undefined || (await provider.Grant.find(found.grantId));
    return Boolean(found.isValid && granted);
  }
  const [, payload] = token.split('.');
  if (!payload) return false;
  return JSON.parse(Buffer.from(payload, 'base64url')).exp > Date.now() / 1000; // no JWT is stored
}

async function decide(userCode, outcome) {
  const { provider } = providerOf(origin);
  const code = await provider.DeviceCode.findByUserCode(userCode.toUpperCase().replace(/\W/g, ''));
  if (!code) throw new Error('no such user code, or expired');
  if (code.accountId || code.error) throw new Error('decided already');
  Object.assign(code, await outcome(provider, code));
  await code.save();
}

const commands = {
  reset() {
    state = initially();
    stored.clear();
    ahead = 0;
  },
  configure({ lifetimes, interval }) {
    Object.assign(state.lifetimes, lifetimes);
    if (interval !== undefined) state.interval = interval;
  },
  advance({ seconds }) {
    ahead += seconds * 1000;
  },
  fail(failure) {
    state.failures.push(failure);
  },
  posts: () => state.posts,
  complaints: () => state.complaints,
  alive: ({ token }) => isAlive(token),
  async grant({ client: name, scope, resource, jkt }) {
    const { provider } = providerOf(origin);
    const clientId = clients[name].client_id;
    const owner = { accountId: 'someone', clientId };
    const grant = new provider.Grant(owner);
    grant.addOIDCScope(scope);
    for (const each of Object.keys(RESOURCES)) grant.addResourceScope(each, scope);
    const common = {
      accountId: 'someone',
      client: await provider.Client.find(clientId),
      grantId: await grant.save(),
      gty: 'authorization_code',
      scope,
    };
    const refresh = new provider.RefreshToken({ ...common, resource, jkt });
    return { refresh_token: await refresh.save() };
  },
  async revoke({ token }) {
    const { provider } = providerOf(origin);
    const found = await find(token);
    if (!found) throw new Error('no such token');
    await new Adapter('').revokeByGrantId(found.grantId);
    await provider.Grant.adapter.destroy(found.grantId);
  },
  approve: ({ user_code: userCode }) =>
    decide(userCode, async (provider, code) => {
      const grant = new provider.Grant({ accountId: 'someone', clientId: code.clientId });
      const scope = code.params.scope ?? 'openid';
      grant.addOIDCScope(scope);
      const grantId = await grant.save();
      return { accountId: 'someone', grantId, scope, authTime: Math.floor(Date.now() / 1000) };
    }),
  deny: ({ user_code: userCode }) =>
    decide(userCode, () => ({ error: 'access_denied', errorDescription: 'the user said no' })),
};

async function control(request, response) {
  let status = 200;
  let result;
  try {
    result = (await commands[request.url.slice(1)](JSON.parse(await bodyOf(request)))) ?? null;
  } catch (error) {
    status = 500;
    result = String(error);
  }
  answer(response, status, { 'Content-Type': 'application/json' }, JSON.stringify(result));
}

// --- Start -----------------------------------------------------------------------------------------

const listen = (server) =>
  new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve(server.address().port));
  });

const http = await listen(createServer(serve));
const https = await listen(
  createSecureServer({ ...given.tls, requestCert: true, rejectUnauthorized: false }, serve),
);
origin = `http://127.0.0.1:${http}`;
providerOf(origin);
const ready = {
  http,
  https,
  control: await listen(createServer(control)),
  clients: Object.fromEntries(
    Object.entries(clients).map(([name, each]) => [
      name,
      { id: each.client_id, secret: each.client_secret ?? null },
    ]),
  ),
};
process.stdout.write(`${JSON.stringify(ready)}\n`);
