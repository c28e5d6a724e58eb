// What the test runs in a guest with the official packages: everything is uploaded, fetched again and compared.
import assert from 'node:assert/strict'
import crypto from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import * as artifactPackage from '@actions/artifact'
import * as cachePackage from '@actions/cache'
import * as corePackage from '@actions/core'
import * as toolsPackage from '@actions/tool-cache'

// Older packages are CommonJS, which may come as the default export.
const load = module => ({ ...module.default, ...module })
const digest = file =>
  new Promise((resolve, reject) => {
    const hash = crypto.createHash('sha256')
    fs.createReadStream(file).on('data', part => hash.update(part)).on('end', () => resolve(hash.digest('hex'))).on('error', reject)
  })
const megabytes = Number(process.env.MEGABYTES)
const workspace = process.env.GITHUB_WORKSPACE
for (const directory of [workspace, process.env.RUNNER_TEMP, process.env.RUNNER_TOOL_CACHE]) fs.mkdirSync(directory, { recursive: true })
process.chdir(workspace)
const took = async (what, work) => {
  const begin = Date.now()
  const result = await work()
  console.log(`${what}: ${Date.now() - begin} ms`)
  return result
}

fs.mkdirSync('files/deep', { recursive: true })
fs.writeFileSync('files/deep/small.txt', 'small\n')
const block = Buffer.alloc(1 << 20)
const large = fs.openSync('files/large.bin', 'w')
for (let i = 0; i < megabytes; i++) {
  // No two megabytes are alike, so a block in the wrong place is seen, and compressing makes it no smaller.
  fs.writeSync(large, crypto.randomFillSync(block))
}
fs.closeSync(large)
const want = await digest('files/large.bin')

// Artifacts.
const { DefaultArtifactClient } = load(artifactPackage)
const client = new DefaultArtifactClient()
const files = ['files/large.bin', 'files/deep/small.txt'].map(file => path.resolve(file))
const upload = () => client.uploadArtifact('my art', files, path.resolve('files'), { compressionLevel: 0, retentionDays: 3 })
const { id, size } = await took('upload', upload)
assert(size > megabytes << 20)
assert.deepEqual((await client.listArtifacts()).artifacts.map(a => [a.name, a.id]), [['my art', id]])
const { artifact } = await client.getArtifact('my art')
assert.equal(artifact.id, id)
await assert.rejects(client.getArtifact('none'))
const { downloadPath } = await took('download', () => client.downloadArtifact(id, { path: path.resolve('fetched') }))
assert.equal(await digest(path.join(downloadPath, 'large.bin')), want)
assert.equal(fs.readFileSync(path.join(downloadPath, 'deep/small.txt'), 'utf8'), 'small\n')
await assert.rejects(upload(), /already exists/)
assert.equal((await client.deleteArtifact('my art')).id, id)
assert.equal((await client.listArtifacts()).artifacts.length, 0)
fs.rmSync('fetched', { recursive: true })
const small = [path.resolve('files/deep/small.txt')]
const again = await client.uploadArtifact('my art', small, path.resolve('files'))
assert.notEqual(again.id, id)
const raw = await client.uploadArtifact('ignored', small, path.resolve('files/deep'), { skipArchive: true })
const rawName = (await client.listArtifacts()).artifacts.find(a => a.id === raw.id).name
if (rawName === 'small.txt') {
  await client.downloadArtifact(raw.id, { path: path.resolve('raw') })
  assert.equal(fs.readFileSync('raw/small.txt', 'utf8'), 'small\n')
  console.log('a single file without an archive works')
}

// Caches.
const cache = load(cachePackage)
assert(cache.isFeatureAvailable())
assert((await took('save', () => cache.saveCache(['files'], 'files-1'))) > 0)
assert.equal(await cache.saveCache(['files'], 'files-1'), -1)
fs.rmSync('files', { recursive: true })
assert.equal(await cache.restoreCache(['files'], 'other', ['nothing-']), undefined)
assert.equal(await cache.restoreCache(['files'], 'files-2', ['files-'], { lookupOnly: true }), 'files-1')
assert.equal(await took('restore', () => cache.restoreCache(['files'], 'files-2', ['files-'])), 'files-1')
assert.equal(await digest('files/large.bin'), want)
delete process.env.ACTIONS_CACHE_SERVICE_V2
try {
  assert((await took('save, version 1', () => cache.saveCache(['files'], 'one-1'))) > 0)
  fs.rmSync('files', { recursive: true })
  assert.equal(await took('restore, version 1', () => cache.restoreCache(['files'], 'one-2', ['one-'])), 'one-1')
  assert.equal(await digest('files/large.bin'), want)
} finally {
  process.env.ACTIONS_CACHE_SERVICE_V2 = 'True'
}

// Identity.
const core = load(corePackage)
const token = await core.getIDToken('sts.example.org')
const [head, payload, signature] = token.split('.')
const part = text => JSON.parse(Buffer.from(text, 'base64url'))
const claims = part(payload)
assert.equal(claims.aud, 'sts.example.org')
assert.equal(claims.sub, 'repo:acme/tool:ref:refs/heads/main')
const said = await (await fetch(`${claims.iss}/.well-known/openid-configuration`)).json()
assert.equal(said.issuer, claims.iss)
const { keys } = await (await fetch(said.jwks_uri)).json()
const key = crypto.createPublicKey({ key: keys.find(key => key.kid === part(head).kid), format: 'jwk' })
const verify = { key, dsaEncoding: 'ieee-p1363' }
assert(crypto.verify('sha256', Buffer.from(`${head}.${payload}`), verify, Buffer.from(signature, 'base64url')))

// Tools.
const tools = load(toolsPackage)
const kept = await tools.cacheDir(path.resolve('files/deep'), 'mytool', '1.2.3')
assert.equal(tools.find('mytool', '1.x'), kept)
assert.equal(await digest(await tools.downloadTool(said.jwks_uri)).then(text => text.length), 64)

console.log('everything is as it should be')
process.exit(0)
