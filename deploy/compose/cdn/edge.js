// What nginx has no directive for: AWS Signature Version 4 for its GET requests to the bucket, as CloudFront's
// origin access control does it, and a response without the object's metadata, as the distribution's headers policy does.
import crypto from 'crypto';
import fs from 'fs';

const REGION = 'us-east-1';
const SIGNED_HEADERS = 'host;x-amz-content-sha256;x-amz-date';

function secret(name) {
    return fs.readFileSync('/run/secrets/' + name, 'utf8').trim();
}

function hmac(key, text) {
    return crypto.createHmac('sha256', key).update(text).digest();
}

// The time of the request, such as 20260102T030405Z. nginx evaluates it once a request.
function date(r) {
    return new Date().toISOString().replace(/[-:]|\.\d{3}/g, '');
}

// The Authorization header. `$object` holds only characters that need no escaping: the location sees to it.
function authorization(r) {
    const time = r.variables.amz_date;
    const day = time.slice(0, 8);
    const scope = [day, REGION, 's3', 'aws4_request'].join('/');
    const canonical = [
        'GET',
        r.variables.object,
        '',
        'host:' + r.variables.origin,
        'x-amz-content-sha256:UNSIGNED-PAYLOAD',
        'x-amz-date:' + time,
        '',
        SIGNED_HEADERS,
        'UNSIGNED-PAYLOAD',
    ].join('\n');
    const digest = crypto.createHash('sha256').update(canonical).digest('hex');
    let key = hmac('AWS4' + secret('secret_access_key'), day);
    key = hmac(hmac(hmac(key, REGION), 's3'), 'aws4_request');
    const signature = crypto
        .createHmac('sha256', key)
        .update(['AWS4-HMAC-SHA256', time, scope, digest].join('\n'))
        .digest('hex');
    return 'AWS4-HMAC-SHA256 Credential=' + secret('access_key_id') + '/' + scope
        + ', SignedHeaders=' + SIGNED_HEADERS + ', Signature=' + signature;
}

// Metadata and tags tell more about an image than its readers need to know.
function keep_metadata_private(r) {
    for (const name in r.headersOut) {
        if (/^(x-amz-|seaweed-|access-control-)/i.test(name)) {
            delete r.headersOut[name];
        }
    }
}

export default { date, authorization, keep_metadata_private };
