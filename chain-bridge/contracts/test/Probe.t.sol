// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Openings} from "../src/Openings.sol";
import {Fixture} from "./Fixture.sol";
import {Pack} from "./Pack.sol";

/// @notice What these tests ask of the probe, which is compiled for size and therefore not imported.
interface IProbe {
    function signer(bytes32 digest, bytes calldata signature) external view returns (address);
    function packedOpening(bytes calldata content, uint256 index, bytes calldata evidence) external view returns (Openings.Opened memory);
    function packedSumOpening(bytes calldata content, uint128 amount, bytes calldata evidence)
        external
        view
        returns (Openings.Summed memory);
    function parts(bytes calldata receipt, bytes calldata quote, bytes calldata manifest, uint32[] calldata codes)
        external
        view
        returns (bool divides, uint256[] memory amounts);
    function fee(bytes calldata receipt, bytes calldata quote) external view returns (bool known, uint256 amount);
}

/// @notice The probe answers as the golden vectors say, and fits a chain's limit for code.
contract ProbeTest is Fixture {
    uint256 private constant CODE_BYTES_MAX = 24_576;
    IProbe private probe;

    function setUp() public override {
        super.setUp();
        probe = IProbe(vm.deployCode("Probe.sol:Probe", ""));
    }

    function test_it_can_be_deployed_on_any_chain() public view {
        yes("code", address(probe).code.length > 0 && address(probe).code.length <= CODE_BYTES_MAX);
    }

    function test_every_document_that_contracts_read_has_its_digest_and_signer() public view {
        uint256 asked = 0;
        for (uint256 i = 0; has(each(".documents", i, "")); ++i) {
            string memory key = each(".documents", i, "");
            bytes memory name_ = bytes(text(string.concat(key, ".name")));
            if (!has(string.concat(key, ".digest")) || same(string(name_), "CheckReport") || same(string(name_), "NodeBinding")) continue;
            address verifying = account(string.concat(".contracts.", text(string.concat(key, ".verifyingContract"))));
            name_[0] = bytes1(uint8(name_[0]) + 32);
            (bool done, bytes memory answer) = address(probe)
                .staticcall(
                    abi.encodeWithSignature(
                        string.concat(string(name_), "Digest(address,bytes)"), verifying, blob(string.concat(key, ".body"))
                    )
                );
            yes(string(name_), done);
            bytes32 digest = abi.decode(answer, (bytes32));
            eq(string(name_), word(string.concat(key, ".digest")), digest);
            address signer = account(string.concat(".keys.", text(string.concat(key, ".signer")), ".account"));
            eq("signer", signer, probe.signer(digest, blob(string.concat(key, ".signature"))));
            ++asked;
        }
        yes("documents were asked about", asked > 12);
    }

    function test_packed_openings_lead_to_the_roots_of_the_vectors() public view {
        for (uint256 i = 1; i < 5; ++i) {
            string memory tree = each(".trees", i, "");
            uint256 count = number(string.concat(tree, ".count"));
            for (uint256 n = 0; n < count; ++n) {
                bytes memory leaf = blob(each(string.concat(tree, ".leaves"), n, ""));
                bytes memory opening_ = Pack.opening(opening(each(string.concat(tree, ".openings"), n, "")));
                Openings.Opened memory opened = probe.packedOpening(leaf, n, opening_);
                eq("root", word(string.concat(tree, ".root")), opened.root);
                eq("count", count, opened.count);
            }
        }
    }

    function test_the_parts_of_the_transcripts_receipt_sum_to_its_fee() public view {
        (bytes memory receipt, bytes memory quote, bytes memory manifest) = billed();
        uint32[] memory codes = new uint32[](39);
        for (uint32 i = 0; i < 7; ++i) codes[i] = i;
        for (uint32 i = 0; i < 16; ++i) {
            codes[7 + i] = 256 + i;
            codes[23 + i] = 65_536 + i;
        }
        (bool divides, uint256[] memory amounts) = probe.parts(receipt, quote, manifest, codes);
        yes("divides", divides);
        uint256 sum = 0;
        for (uint256 i = 0; i < amounts.length; ++i) sum += amounts[i];
        eq("sum", feeOf(receipt), sum);
        (bool known, uint256 fee) = probe.fee(receipt, quote);
        yes("known", known);
        eq("fee", feeOf(receipt), fee);
    }

    /// @dev The first billed receipt of the vectors whose quote and manifest are among them.
    function billed() private view returns (bytes memory receipt, bytes memory quote, bytes memory manifest) {
        for (uint256 i = 0; has(each(".documents", i, "")); ++i) {
            if (!same(text(each(".documents", i, ".name")), "Receipt")) continue;
            if (number(each(".documents", i, ".fields.reason")) >= 16) continue;
            receipt = blob(each(".documents", i, ".body"));
            quote = byHash("Quote", word(each(".documents", i, ".fields.quoteHash")));
            manifest = byHash("Manifest", word(each(".documents", i, ".fields.manifestRoot")));
            if (quote.length != 0 && manifest.length != 0) return (receipt, quote, manifest);
        }
        revert("no billed receipt");
    }

    function byHash(string memory name_, bytes32 hash) private view returns (bytes memory) {
        for (uint256 i = 0; has(each(".documents", i, "")); ++i) {
            bytes memory body = blob(each(".documents", i, ".body"));
            if (same(text(each(".documents", i, ".name")), name_) && keccak256(body) == hash) return body;
        }
        return "";
    }

    function feeOf(bytes memory receipt) private pure returns (uint256 fee) {
        assembly ("memory-safe") {
            fee := shr(128, mload(add(receipt, 404)))
        }
    }
}
