import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAddress, parseClientAddress } from "../src/address.js";
import { TenantAuthError } from "../src/error.js";
import { addressDenial, contain, limitsOf, parseNetwork } from "../src/networks.js";

const office = [0xc000, 0x0207]; // 192.0.2.7
const documentation = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 7];
const linkLocal = [0xfe80, 0, 0, 0, 0, 0, 0, 1];

test("addresses: each form is accepted", () => {
  for (const [text, address] of [
    ["192.0.2.7", office],
    ["192.0.2.7:0", office],
    ["192.0.2.7:65535", office],
    ["0.0.0.0", [0, 0]],
    ["255.255.255.255", [0xffff, 0xffff]],
    ["2001:db8::7", documentation],
    ["2001:DB8:0:0:0:0:0:7", documentation],
    ["2001:0db8:0000:0000:0000:0000:0000:0007", documentation],
    ["[2001:db8::7]", documentation],
    ["[2001:db8::7]:443", documentation],
    ["2001:db8::0.0.0.7", documentation],
    ["fe80::1%eth0", linkLocal],
    ["fe80::1%veth_1.100", linkLocal],
    ["[fe80::1%eth0]", linkLocal],
    ["[fe80::1%eth0]:443", linkLocal],
    ["::", [0, 0, 0, 0, 0, 0, 0, 0]],
    ["::1", [0, 0, 0, 0, 0, 0, 0, 1]],
    ["1::", [1, 0, 0, 0, 0, 0, 0, 0]],
    ["1:2:3:4:5:6:7::", [1, 2, 3, 4, 5, 6, 7, 0]],
    ["1:2:3:4:5:6:7:8", [1, 2, 3, 4, 5, 6, 7, 8]],
    ["::192.0.2.7", [0, 0, 0, 0, 0, 0, 0xc000, 0x0207]],
    ["64:ff9b::192.0.2.7", [0x64, 0xff9b, 0, 0, 0, 0, 0xc000, 0x0207]],
    ["::ffff:0:c000:207", [0, 0, 0, 0, 0xffff, 0, 0xc000, 0x0207]],
    [`fe80::1%${"e".repeat(120)}`, linkLocal],
  ] as const) {
    assert.deepEqual(parseAddress(text), address, text);
  }
});

test("addresses: an IPv4-mapped IPv6 address is the IPv4 address", () => {
  const forms = ["::ffff:192.0.2.7", "::FFFF:c000:207", "0:0:0:0:0:ffff:192.0.2.7", "::ffff:192.0.2.7%eth0"];
  for (const text of [...forms, "[::ffff:192.0.2.7]", "[::ffff:c000:207]:443"])
    assert.deepEqual(parseAddress(text), office, text);
});

const invalid = [
  "",
  " 192.0.2.7",
  "192.0.2.7 ",
  "192.0.2.7\n",
  "192.0.2",
  "192.0.2.7.1",
  "192.0.2.256",
  "192.0.02.7",
  "192.0.2.0x7",
  "3221225991",
  "192.0.2.7:",
  "192.0.2.7:port",
  "192.0.2.7:-1",
  "192.0.2.7:+1",
  "192.0.2.7:65536",
  "192.0.2.7:443:443",
  "192.0.2.7/32",
  "192.0.2.7%eth0",
  "192.0.2.7, 192.0.2.8",
  "192.0.2.7,192.0.2.8",
  "[192.0.2.7]",
  "[192.0.2.7]:443",
  "\u0661.0.2.7",
  "2001:db8::7::1",
  "2001:db8:::7",
  "1::2:3:4:5:6:7:8",
  "1:2:3:4:5:6:7",
  "1:2:3:4:5:6:7:8:9",
  "12345::",
  "g::1",
  "::ffff:192.0.02.7",
  "::ffff:192.0.2",
  "192.0.2.7::",
  "2001:db8::7/128",
  "[2001:db8::7",
  "2001:db8::7]",
  "[[2001:db8::7]]",
  "[2001:db8::7]443",
  "[2001:db8::7]:",
  "[2001:db8::7]:65536",
  "[2001:db8::7 ]",
  "[]",
  "fe80::1%",
  "[fe80::1%]",
  "[fe80::1%]:443",
  "fe80::1%a b",
  "fe80::1%a,192.0.2.7",
  "fe80::1%a%b",
  "fe80::1%\ud800",
  "%eth0",
  "example.com",
  "localhost",
  "unknown",
  "_hidden",
  "for=192.0.2.7",
  "unix:",
  `fe80::1%${"e".repeat(121)}`,
];

test("addresses: other texts are invalid", () => {
  for (const text of invalid) assert.equal(parseAddress(text), undefined, JSON.stringify(text));
});

test("addresses: the error names the field and the accepted forms", () => {
  for (const text of invalid.slice(1)) {
    const error = parseClientAddress(text);
    assert.ok(error instanceof TenantAuthError);
    assert.deepEqual([error.kind, error.violations[0]?.field], ["invalid", "client_address"]);
    assert.match(error.message, /client_address: must be an IPv4 or IPv6 address, with or without a port/);
  }
  assert.deepEqual(parseClientAddress(), { text: "", address: undefined });
  assert.deepEqual(parseClientAddress(""), { text: "", address: undefined });
  assert.deepEqual(parseClientAddress("192.0.2.7:1"), { text: "192.0.2.7:1", address: office });
  for (const value of [null, 7, {}, ["192.0.2.7"]] as unknown as string[])
    assert.throws(() => parseClientAddress(value), /^TypeError: clientAddress must be a string/);
});

test("networks: each contains its addresses only", () => {
  for (const [network, inside, outside] of [
    ["192.0.2.0/24", ["192.0.2.0", "192.0.2.255", "::ffff:192.0.2.7"], ["192.0.1.255", "192.0.3.0"]],
    ["192.0.2.128/25", ["192.0.2.128", "192.0.2.255"], ["192.0.2.127"]],
    ["10.0.0.0/8", ["10.255.255.255"], ["11.0.0.0", "9.255.255.255"]],
    ["10.1.2.3/8", ["10.255.255.255"], ["11.0.0.0"]],
    ["128.0.0.0/1", ["128.0.0.0", "255.255.255.255"], ["127.255.255.255"]],
    ["198.51.100.7", ["198.51.100.7"], ["198.51.100.6", "198.51.100.8"]],
    ["198.51.100.7/32", ["198.51.100.7"], ["198.51.100.6"]],
    [
      "0.0.0.0/0",
      ["0.0.0.0", "255.255.255.255", "::ffff:1.2.3.4"],
      ["::", "::1", "::1.2.3.4", "2001:db8::1"],
    ],
    ["::/0", ["::", "2001:db8::1", "::1.2.3.4"], ["1.2.3.4", "::ffff:1.2.3.4"]],
    ["2001:db8:1::/48", ["2001:db8:1::", "2001:db8:1:ffff::1"], ["2001:db8:2::", "2001:db8::"]],
    ["2001:db8::/33", ["2001:db8:7fff::"], ["2001:db8:8000::"]],
    ["fe80::/10", ["fe80::1%eth0", "[febf::1]:443"], ["fec0::", "fe7f::"]],
    ["2001:db8::7", ["2001:db8::7"], ["2001:db8::8", "2001:db8::6"]],
    ["::ffff:10.0.0.0/104", ["10.255.255.255"], ["11.0.0.0", "::a00:0"]],
    ["::ffff:10.0.0.7", ["10.0.0.7"], ["10.0.0.8"]],
  ] as const) {
    const parsed = parseNetwork(network);
    assert.ok(parsed !== undefined, network);
    const holds = (text: string): boolean => contain([parsed], parseAddress(text) ?? assert.fail(text));
    for (const text of inside) assert.ok(holds(text), `${text} in ${network}`);
    for (const text of outside) assert.ok(!holds(text), `${text} not in ${network}`);
  }
});

test("networks: other texts are invalid", () => {
  for (const text of [
    "",
    "/8",
    "10.0.0.0/",
    "10.0.0.0/33",
    "10.0.0.0/-1",
    "10.0.0.0/08",
    "10.0.0.0/8/8",
    "10.0.0.0/255.0.0.0",
    "10.0.0.1:80",
    "10/8",
    " 10.0.0.0/8",
    "::/129",
    "[::1]",
    "[::1]/128",
    "fe80::1%eth0",
    "fe80::%eth0/10",
    "::ffff:10.0.0.0/8",
    "::ffff:10.0.0.0/129",
    "loopback",
    "example.com",
  ]) {
    assert.equal(parseNetwork(text), undefined, JSON.stringify(text));
  }
});

test("networks: an address must be in both lists of a session", () => {
  const denial = (session: string[], presented: string[], text?: string): string | undefined => {
    const limits = limitsOf({ allowedNetworks: session, presentedKeyAllowedNetworks: presented });
    return addressDenial(limits, text === undefined ? undefined : parseAddress(text));
  };
  assert.equal(denial([], []), undefined);
  assert.equal(denial([], [], "192.0.2.1"), undefined);
  assert.equal(denial(["192.0.2.0/24"], []), "ADDRESS_REQUIRED");
  assert.equal(denial([], ["192.0.2.0/24"]), "ADDRESS_REQUIRED");
  assert.equal(denial([], ["192.0.2.0/24"], "192.0.2.1"), undefined);
  assert.equal(denial(["10.0.0.0/8"], ["192.0.2.0/24"], "192.0.2.1"), "ADDRESS_NOT_ALLOWED");
  assert.equal(denial(["192.0.0.0/16"], ["192.0.2.0/24"], "192.0.2.1"), undefined);
  // A network that cannot be parsed contains nothing, and still limits the key.
  assert.equal(denial(["a new kind"], [], "192.0.2.1"), "ADDRESS_NOT_ALLOWED");
  assert.equal(denial(["a new kind", "192.0.2.0/24"], [], "192.0.2.1"), undefined);
});
